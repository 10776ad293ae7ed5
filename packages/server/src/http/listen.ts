import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { type Config, ConfigError } from '../config.ts'
import { portOwner } from './port-owner.ts'

type Address = Pick<Config, 'host' | 'port' | 'apiKey'>

/** Whether only this machine can reach it. */
export const isLoopback = (host: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host)

/** ConfigError for a bind that others can reach when nobody has chosen a key. */
export function refuseOpenBind({ host, apiKey }: Address): void {
  if (isLoopback(host) || apiKey !== null) return
  throw new ConfigError(`HOST=${host} can be reached from other machines: set MLX_TRAINING_API_KEY to a secret first`)
}

/** Listens and tells the URL. ConfigError when the address can't be had: who has it, and what to set. */
export async function listen(app: FastifyInstance, { host, port }: Address): Promise<string> {
  try {
    await app.listen({ host, port })
  } catch (error) {
    throw await explained(error as NodeJS.ErrnoException, host, port)
  }
  const { port: actual } = app.server.address() as AddressInfo
  return `http://${reachable(host)}:${actual}`
}

async function explained(error: NodeJS.ErrnoException, host: string, port: number): Promise<Error> {
  switch (error.code) {
    case 'EADDRINUSE': {
      const owner = await portOwner(port)
      const by = owner ? ` by ${owner}` : ''
      return new ConfigError(`port ${port} is in use${by}. Stop that, or set PORT to another one`, { cause: error })
    }
    case 'EACCES':
      return new ConfigError(`no permission to listen on port ${port}: set PORT to one from 1024`, { cause: error })
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new ConfigError(`HOST=${host} is no address of this machine`, { cause: error })
    default:
      return error
  }
}

/** A wildcard address can be listened on, but not be called. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}
