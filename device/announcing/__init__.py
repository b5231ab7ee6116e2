"""Who hears of live answers: the terminal, a program on the other end, a command, a broker."""
