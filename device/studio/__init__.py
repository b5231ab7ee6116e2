"""The studio: one page, served by the board, to collect pictures, teach, train and look."""
