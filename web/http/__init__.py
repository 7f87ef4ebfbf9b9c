"""HTTP and WebSocket connections: limits, headers, bodies, streams. No dialect."""
