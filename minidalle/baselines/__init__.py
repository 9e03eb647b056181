"""The systems that DALL·E is compared with, one file each, trained on the same pictures."""
