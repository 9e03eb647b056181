"""The storybook, second edition: every caption has many pictures. Replaces the first edition."""
