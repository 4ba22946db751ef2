"""A stand-in of Qiniu, built from docs/facts/qiniu.md §11.2. `service` joins the hosts; `habits`
switches on answers that Qiniu has been seen to give.
"""
