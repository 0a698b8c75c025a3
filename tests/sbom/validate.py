"""Validates documents with the libraries of those who made the formats: SPDX's, and CycloneDX's with its JSON schema.

    validate.py FILE...        prints a line with the number of packages for each that is valid
"""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

failed = False
for path in sys.argv[1:]:
    with open(path) as file:
        text = file.read()
    document = json.loads(text)
    if document.get("bomFormat") == "CycloneDX":
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
        errors = [str(error)] if error else []
        count = len(document["components"])
    else:
        errors = [message.validation_message for message in validate_full_spdx_document(parse_file(path))]
        count = len(document["packages"])
    failed |= bool(errors)
    print(path, count, *errors[:10])
sys.exit(failed)
