"""What a run solves for on its pictures: the first classifier, and how sure its answers are."""
