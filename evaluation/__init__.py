"""What a script asks for in one call, joining the other parts."""
