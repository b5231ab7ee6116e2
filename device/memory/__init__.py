"""What a process that trains needs, planned, and what it uses, measured."""
