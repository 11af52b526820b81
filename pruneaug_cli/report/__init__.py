"""One result, many renderings: documents become tables; tables know terminal, Markdown, JSON, HTML.

Everything here reads the JSON documents of ``app/results.py`` and knows no model. A value that is
missing or not a number is shown as a dash. Units are converted here and nowhere else.
"""
