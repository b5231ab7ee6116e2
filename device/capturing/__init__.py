"""Pictures of a camera into class folders: which frames are kept, how, and at whose word."""
