"""One cell after another: MADE, PixelCNN, PixelRNN, transformer."""
