"""The field for an image takes only files of the page's own folder."""

import asyncio

import pytest

from ccnet.app.storage import temporary_storage

gradio = pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")


def test_only_what_was_uploaded_is_taken(tmp_path):
    from ccnet.app.upload import new_upload

    foreign = tmp_path / "foreign.png"
    foreign.write_bytes(b"1")
    with temporary_storage() as storage:
        field = new_upload(label="Image")
        own = storage.new_folder() / "own.png"
        own.write_bytes(b"1")
        link = storage.folder / "link.png"
        link.symlink_to(foreign)
        assert asyncio.run(field.async_move_resource_to_block_cache(str(own))) == str(own)
        assert asyncio.run(field.async_move_resource_to_block_cache(None)) is None
        names = ["http://127.0.0.1/a.png", "https://example.com/a.png", "/etc/passwd", "a\0b"]
        names += [str(foreign), str(link), str(storage.folder), 5000 * "a"]
        for name in names:
            with pytest.raises(gradio.Error, match="the page keeps no such file"):
                asyncio.run(field.async_move_resource_to_block_cache(name))
