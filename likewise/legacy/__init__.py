"""What scripts from before 3.0 use: `fit`, readers, older data sets and loaders."""
