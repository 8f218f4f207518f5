"""What an object consists of, whether its class runs interpreted or compiled."""


def attribute_names(kind: type) -> tuple[str, ...]:
    """The slots of a class, or the attributes that mypyc gave it, with those of its bases."""
    return tuple(
        name
        for base in kind.__mro__
        for slots in (base.__dict__.get("__slots__", ()), base.__dict__.get("__mypyc_attrs__", ()))
        for name in slots
    )
