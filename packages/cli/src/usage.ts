/** Mistakes in words and flags: commander finds them, and they are told as all others are. */
import type { Command, CommanderError } from 'commander'
import { Stop } from './exit.ts'
import { nearest } from './nearest.ts'

const HELP = 'mlx-training --help lists the commands'

/** Of each command: it writes no error itself and throws Stop, or what commander throws when help was asked for and given. */
export function throwMistakes(command: Command, json: boolean): void {
  // Without a command commander writes its help to stderr.
  command.configureOutput({ outputError: () => {}, ...(json && { writeErr: () => {} }) })
  command.showSuggestionAfterError(false)
  command.exitOverride((error) => {
    throw error.exitCode === 0 || (error.code === 'commander.help' && !json) ? error : mistake(error, command)
  })
  for (const part of command.commands) throwMistakes(part, json)
}

function mistake({ code, message }: CommanderError, command: Command): Stop {
  if (code === 'commander.help') return new Stop(`No command is named; ${HELP}`)
  const meant = meantBy(code, message, command)
  const hint = meant.length > 0 ? `did you mean ${meant.join(' or ')}? ${HELP}` : HELP
  return new Stop(`${message.replace(/^error: /, '')}\n(${hint})`)
}

function meantBy(code: string, message: string, command: Command): string[] {
  const word = /'(.*)'/.exec(message)?.[1] ?? ''
  if (code === 'commander.unknownCommand') return nearest(word, namesOf(command))
  if (code !== 'commander.unknownOption' || !word.startsWith('--')) return []
  return nearest(word.slice(2), flagsOf(command)).map((flag) => `--${flag}`)
}

const namesOf = (command: Command) =>
  command
    .createHelp()
    .visibleCommands(command)
    .map((one) => one.name())

/** With those of the commands that it is a part of. */
function flagsOf(command: Command): string[] {
  const own = command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ long }) => long?.slice(2) ?? [])
  return command.parent ? [...new Set([...own, ...flagsOf(command.parent)])] : own
}
