"""Base class and field types of the sections of the configuration."""

from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
OpenProbability = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16", "float16"]
Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


class _NotANumber:
    """Stand for a bool where none is allowed, so that the error of the field names what is allowed."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"{self.value} (YAML reads {'yes and on' if self.value else 'no and off'} so as well)"


class Section(BaseModel):
    """Base of every section: values cannot be changed, and unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a bool for a number: YAML reads `yes` as true, and Python counts true as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation is bool:
            return value
        if isinstance(value, dict) and get_origin(annotation) is dict:
            return {name: _without_bools(one) for name, one in value.items()}
        return _without_bools(value)


def _without_bools(value: Any) -> Any:
    if isinstance(value, bool):
        return _NotANumber(value)
    return [_without_bools(one) for one in value] if isinstance(value, list) else value
