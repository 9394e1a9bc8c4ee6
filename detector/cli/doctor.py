"""`detector doctor`."""

from dataclasses import asdict

import click

from detector.cli.output import echo_json


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, default=False, help="Print one JSON document.")
def doctor_command(as_json: bool) -> None:
    """Say what is installed, which devices and threads there are, and how to get what is missing.

    Nothing is changed or downloaded. Exit code 5 when something needed is missing.

    Example: detector doctor
    """
    from detector.doctor import diagnose
    from detector.errors import MissingResourceError

    findings = diagnose()
    problems = [finding for finding in findings if finding.is_problem]
    if as_json:
        echo_json(
            {
                "findings": [asdict(finding) for finding in findings],
                "problems": [f"{finding.name}: {finding.remedy}" for finding in problems],
            }
        )
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            state = finding.found or ("missing" if finding.needed else "not there")
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.name:<{width}}  {state}{remedy}")
    if problems:
        raise MissingResourceError(
            "; ".join(f"{finding.name} is missing: {finding.remedy}" for finding in problems)
        )
