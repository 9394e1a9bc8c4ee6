"""ADE20K's files: masks, and the text or JSON that describes them; read, paired and compared."""
