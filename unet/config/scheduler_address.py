"""Check that a dask scheduler can be trusted. Whoever reaches a scheduler can run any code on its workers.

```
predict.workers: slurm       a scheduler of the job: TLS with a certificate that is made for the job and ends with it
predict.scheduler: tls://    a scheduler of the user: TLS with the certificates in dask's own configuration
predict.scheduler: tcp://    on this machine alone, unless dask's configuration allows plain TCP
```
"""

from ipaddress import ip_address

TLS_KEYS = ("ca-file", "client.cert", "client.key")
"""Keys below `distributed.comm.tls` that a client needs."""
PLAIN = "distributed.comm.require-encryption"
"""Key of dask's configuration. Its default is null, so False is a decision of the user."""


def checked_scheduler(address: str) -> str:
    """Return the address of a scheduler after checking that it can be trusted.

    Raises
    ------
    ValueError
        If the address is malformed, if certificates are missing, or if it is plain TCP to another machine.
    """
    from dask import config  # takes time, and few runs have a scheduler of their own

    protocol, separator, place = address.partition("://")
    if protocol not in ("tls", "tcp") or not separator or not place.rpartition(":")[2].isdigit():
        raise ValueError(f"got {address!r}; a scheduler's address is like tls://node1:8786")
    if protocol == "tls":
        missing = [key for key in TLS_KEYS if not config.get(f"distributed.comm.tls.{key}", None)]
        if missing:
            raise ValueError(
                f"{address} takes certificates, but dask's configuration lacks "
                f"{', '.join(f'distributed.comm.tls.{key}' for key in missing)}; see docs/how-to/slurm.md"
            )
    elif not is_loopback(place) and config.get(PLAIN, None) is not False:
        raise ValueError(
            f"{address} is plain TCP to another machine: whoever can reach that port can run code as you. Start the "
            f"scheduler with TLS and write tls://{place}, or set {PLAIN} to False in dask's configuration if the "
            "network is yours alone; see docs/how-to/slurm.md"
        )
    return address


def is_loopback(place: str) -> bool:
    """Return whether a host and port can be reached from this machine alone.

    >>> is_loopback("127.0.0.1:8786"), is_loopback("[::1]:8786"), is_loopback("localhost:1"), is_loopback("node1:8786")
    (True, True, True, False)
    """
    host = place.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
