import { readFileSync } from 'node:fs'
import { CommanderError } from 'commander'
import { EXIT, Stop } from './exit.ts'
import { createProgram } from './program.ts'
import { allowBrokenPipes } from './screen/print.ts'
import { sessionOf } from './session.ts'
import { tell } from './tell.ts'
import { throwMistakes } from './usage.ts'

/** Also where flags are wrong, so that commander has read none. After -- there are no flags. */
const words = process.argv.slice(2)
const json = (words.includes('--') ? words.slice(0, words.indexOf('--')) : words).includes('--json')

allowBrokenPipes((problem) => tell(new Stop(problem, EXIT.server), '', json))
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
const program = createProgram(version)
throwMistakes(program, json)
try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
  else process.exitCode = tell(error, error instanceof Stop ? '' : sessionOf(program.opts()).url, json)
}
