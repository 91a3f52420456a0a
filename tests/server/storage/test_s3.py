def test_put(new_s3):
    s = new_s3()
    assert s.put("data/ab/cdef", b"content") is True
    assert s.put("data/ab/cdef", b"content") is False
    assert list(s.objects()) == [("data/ab/cdef", 7)]
    s.sync()
