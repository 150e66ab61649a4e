"""One family a file: equations first, then code in their symbols."""
