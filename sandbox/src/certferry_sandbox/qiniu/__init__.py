"""A stand-in of Qiniu, built from docs/facts/qiniu.md §11.2: `service` joins the hosts, `habits`
are what it has been seen to answer.
"""
