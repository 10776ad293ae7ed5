/** Scripts for bash, zsh and fish, made from the commands themselves. */
import type { Command } from 'commander'
import { Stop } from './exit.ts'

export const SHELLS = ['bash', 'zsh', 'fish'] as const

/** Commands whose arguments are experiments, which the script asks the server for. */
const OF_EXPERIMENTS = ['status', 'watch', 'logs', 'stop', 'pause', 'resume', 'delete', 'priority']

export function completion(program: Command, shell: string): string {
  const name = program.name()
  const commands = program.commands.filter((command) => command.name() !== 'help')
  if (shell === 'fish') return fish(name, program, commands)
  if (shell === 'bash' || shell === 'zsh')
    return (shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '') + bash(name, program, commands)
  throw new Stop(`${shell}: completion is there for ${SHELLS.join(', ')}`)
}

const flagsOf = (command: Command) => command.options.map(({ long }) => long).filter((flag) => flag !== undefined)
const names = (name: string) => `${name} list --json 2>/dev/null | grep -o '"experiment_name":"[^"]*"' | cut -d'"' -f4`

function bash(name: string, program: Command, commands: readonly Command[]): string {
  const cases = commands.map((command) => {
    const words = [...command.commands.map((sub) => sub.name()), ...flagsOf(command), ...flagsOf(program)].join(' ')
    const experiments = OF_EXPERIMENTS.includes(command.name()) ? ` $(${names(name)})` : ''
    return `    ${command.name()}) words="${words}${experiments}" ;;`
  })
  const all = [...commands.map((command) => command.name()), ...flagsOf(program)].join(' ')
  return `_${name.replaceAll('-', '_')}() {
  local words
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
    *) words="${all}" ;;
  esac
  [ "$COMP_CWORD" = 1 ] && words="${all}"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _${name.replaceAll('-', '_')} ${name}
`
}

function fish(name: string, program: Command, commands: readonly Command[]): string {
  const flag = (command: Command, condition: string) =>
    command.options.map(
      ({ long, description }) =>
        `complete -c ${name} ${condition} -l ${long?.slice(2)} -d '${description.replaceAll("'", "\\'")}'`,
    )
  const first = '__fish_use_subcommand'
  const lines = commands.flatMap((command) => {
    const inside = `-n '__fish_seen_subcommand_from ${command.name()}'`
    return [
      `complete -c ${name} -n ${first} -a ${command.name()} -d '${command.description().replaceAll("'", "\\'")}'`,
      ...flag(command, inside),
      ...command.commands.map((sub) => `complete -c ${name} ${inside} -a ${sub.name()}`),
      ...(OF_EXPERIMENTS.includes(command.name()) ? [`complete -c ${name} -f ${inside} -a "(${names(name)})"`] : []),
    ]
  })
  return `${[...flag(program, ''), ...lines].join('\n')}\n`
}
