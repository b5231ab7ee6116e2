"""What a trained state gets wrong, and what its pictures are worth: findings, and a page."""
