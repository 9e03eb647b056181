"""The storybook world: facts, how they are drawn and described, and a judge of both."""
