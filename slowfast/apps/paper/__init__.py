"""The rows of papers' tables: published figures beside measured ones, and what it takes to reproduce a row."""
