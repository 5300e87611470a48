"""Tuple spaces of Godwit hosts.

    with godwit.connect("alice.key") as host:
        bag = host.space("bag")
        bag.out("task", 42, 3.5)
        name, n, x = bag.in_("task", int, float)

A key file comes from the host: `godwit keygen alice > alice.key` there. Everything here may be used by any number of threads.
"""
from godwit._errors import GodwitError, SessionLost, TimedOut
from godwit._fields import ANY, Field, one_of, prefix, range_
from godwit._host import Host, SpaceFacts, connect
from godwit._space import Lease, Pending, Pipeline, Space, Subscription, TransactedSpace, Transaction

__all__ = ["ANY", "Field", "GodwitError", "Host", "Lease", "Pending", "Pipeline", "SessionLost", "Space", "SpaceFacts",
           "Subscription", "TimedOut", "TransactedSpace", "Transaction", "connect", "one_of", "prefix", "range_"]
