"""Models as files: the native format; other packages' formats are read here too."""
