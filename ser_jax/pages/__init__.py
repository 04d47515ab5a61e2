"""Kits that all pages share: HTML, Markdown, figures, numbers as text."""
