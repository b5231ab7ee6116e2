"""What a backward pass keeps of the forward pass, apart from what a method trains."""
