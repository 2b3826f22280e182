"""Networks that others have published: the CCNet authors' files and mmsegmentation's."""

from ccnet.published.reading import Published, read_published

__all__ = ["Published", "read_published"]
