"""Between client and server: the web server, and a link with latency and bandwidth of our own."""
