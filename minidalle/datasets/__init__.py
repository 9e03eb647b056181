"""Sources of training pictures and captions: the `Source` protocol, and folders of pictures."""
