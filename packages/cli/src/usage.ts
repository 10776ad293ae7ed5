/** Mistakes in words and flags: commander finds them, and they are told as all others are. */
import type { Command, CommanderError } from 'commander'
import { Stop } from './exit.ts'

const HELP = 'mlx-training --help lists the commands'

/** Of each command: it writes no error itself and throws Stop, or what commander throws when help was asked for and given. */
export function throwMistakes(command: Command, json: boolean): void {
  // Without a command commander writes its help to stderr.
  command.configureOutput({ outputError: () => {}, ...(json && { writeErr: () => {} }) })
  command.exitOverride((error) => {
    throw error.exitCode === 0 || (error.code === 'commander.help' && !json) ? error : mistake(error)
  })
  for (const part of command.commands) throwMistakes(part, json)
}

function mistake({ code, message }: CommanderError): Stop {
  if (code === 'commander.help') return new Stop(`No command is named; ${HELP}`)
  return new Stop(`${message.replace(/^error: /, '')}\n(${HELP})`)
}
