"""Where results are computed: in this process or on a Ray cluster."""
