from typing import Any, Optional

from pydantic import BaseModel


class ExtractRequest20241227(BaseModel):
    text: Optional[str]
    bboxes: Optional[dict[int, Any]]
    pages: Optional[list[Any]]
    raw_ocr_response: Optional[Any]


class ExtractResponse20240117(BaseModel):
    annotation_sets: list[Any]
    credentials: list[str]
