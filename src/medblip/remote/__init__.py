"""Captioners behind an HTTP interface: names, wire formats, and one careful client.

names.py     which names mean a remote captioner, and where it is
formats.py   OpenAI's and Gemini's requests and answers
picture.py   what is sent of an image: its pixels, and nothing else
pace.py      so many attempts a minute, over all threads
retry.py     what a failed attempt means
client.py    one image to one answer: key, retries, refusals
"""
