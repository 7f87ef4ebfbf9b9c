"""What all sides must agree on; `vectors`: what every client passes."""
