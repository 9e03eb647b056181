"""Where training pictures and captions come from: the `Source` protocol and one's own folders."""
