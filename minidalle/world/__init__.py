"""The storybook world: facts, pictures and captions of them, and a judge that reads pictures."""
