"""Where frames come from: cameras, streams, video files, a folder played as a camera."""
