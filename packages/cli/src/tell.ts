import { EXIT } from './exit.ts'
import { explain, type Told } from './explain.ts'
import pc from './screen/colours.ts'
import { marked, note } from './screen/print.ts'

/** What went wrong, on stderr: a marked line a failure, or with --json one object. Returns the status to end with. */
export function tell(error: unknown, url: string, json: boolean): number {
  const { lines, told, code } = explain(error, url)
  const { isTTY } = process.stderr
  // A terminal has put ^C into the line.
  if (isTTY && code === EXIT.interrupted) note('')
  if (json) note(asObject(told, isTTY))
  else for (const line of lines) note(code === EXIT.interrupted ? line : marked(pc.red('✗'), line, process.stderr))
  return code
}

const asObject = (told: Told, isTTY: boolean) => JSON.stringify(told, null, isTTY ? 2 : undefined)
