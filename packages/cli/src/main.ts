import { readFileSync } from 'node:fs'
import { CommanderError } from 'commander'
import { EXIT, explain, Stop } from './exit.ts'
import { createProgram } from './program.ts'
import pc from './screen/colours.ts'
import { allowBrokenPipes, marked, note } from './screen/print.ts'
import { sessionOf } from './session.ts'

allowBrokenPipes()
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
const program = createProgram(version)
const quiet = (command: typeof program) => {
  command.exitOverride()
  command.commands.forEach(quiet)
}
quiet(program)
try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
  else {
    const { line, code } = explain(error, error instanceof Stop ? '' : sessionOf(program.opts()).url)
    // A terminal has put ^C into the line.
    if (code === EXIT.interrupted) note((process.stderr.isTTY ? '\n' : '') + line)
    else note(marked(pc.red('✗'), line, process.stderr))
    process.exitCode = code
  }
}
