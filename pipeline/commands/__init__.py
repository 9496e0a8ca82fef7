"""The commands of `headlight`, one file each."""
