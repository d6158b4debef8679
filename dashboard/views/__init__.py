"""One module a page. Only a running Streamlit imports them."""
