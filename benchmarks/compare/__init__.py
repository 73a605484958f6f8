"""macekit beside other packages, in turns."""
