"""Streamlit pages: view, queries and charts."""
