"""What the jobs of the example share: the call of a service, and what its answer means for the job.

A job reads its task as JSON: the payload has the request's `params` and `extras`, and the place of the job in it. The last line of
standard error becomes the job's error. Exit code 0: completed. 75: retry, for what passes by itself. Any other: failed.

Not executable, or it would itself be the handler of a task type `service`. Needs Python 3 and nothing else.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

RETRY = 75
FAILED = 1
UNUSABLE = 64
NOT_SET_UP = 78

# Longer than a service takes, shorter than the time limit of the task type.
TIMEOUT_SECONDS = 30

# A service that answers so may answer otherwise later.
PASSING = {408, 425, 429, 500, 502, 503, 504}


def end(code, text):
    print(text, file=sys.stderr)
    sys.exit(code)


def job():
    """The payload of the task."""
    return json.load(sys.stdin)["payload"]


def user_of(payload):
    """The id of the user whom the request is about."""
    user = payload["params"].get("id") if isinstance(payload["params"], dict) else None
    if isinstance(user, bool) or not isinstance(user, (int, str)) or user == "":
        end(UNUSABLE, f"params.id must be the id of a user, got {json.dumps(user)}")
    return urllib.parse.quote(str(user), safe="")


def call(variable, method, path, headers=None):
    """Status and body of the answer of a service. Ends the job with `retry` where the service may answer otherwise later."""
    base = os.environ.get(variable)
    if not base:
        end(NOT_SET_UP, f"{variable} is not set: it belongs into the environment and into endpoint.pass_env")
    url = base.rstrip("/") + path
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
        if error.code in PASSING:
            end(RETRY, f"{method} {url}: {error.code} {error.reason}")
        return error.code, body
    except (urllib.error.URLError, OSError) as error:
        end(RETRY, f"{method} {url}: {getattr(error, 'reason', error)}")


def get_user(variable):
    """Looks a user up; what later steps need of the user goes into the extras of the request."""
    user = user_of(job())
    status, body = call(variable, "GET", f"/users/{user}")
    if status != 200:
        end(FAILED, f"the user {user} cannot be read: {variable} answers {status}")
    found = json.loads(body)
    # Extras are strings.
    print(json.dumps({"extras": {"email": str(found.get("email", ""))}}))


def delete_user(variable):
    """Deletes the account of a user. An account that is not there needs no deleting: a retry must not fail for it."""
    payload = job()
    user = user_of(payload)
    email = urllib.parse.quote(payload["extras"].get("email", ""), safe="")
    status, _ = call(variable, "DELETE", f"/users/{user}?email={email}")
    if status not in (200, 202, 204, 404):
        end(FAILED, f"the account of the user {user} is not deleted: {variable} answers {status}")
