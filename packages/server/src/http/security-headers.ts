/** securityHeaders: helmet's headers, put together once; its middleware would do that again for every request. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import helmet from 'helmet'

/** Swagger UI brings its script and styles as files, but draws its icons from data URLs and sets style attributes. */
const HELMET = {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'self'"],
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
      formAction: ["'self'"],
      objectSrc: ["'none'"],
      imgSrc: ["'self'", 'data:'],
      styleSrc: ["'self'", "'unsafe-inline'"],
    },
  },
  // Plain HTTP on a local port; whoever puts TLS before it sets this there.
  strictTransportSecurity: false,
}

export function securityHeaders(): Record<string, string> {
  const request = new IncomingMessage(new Socket())
  const response = new ServerResponse(request)
  helmet(HELMET)(request, response, (error) => {
    if (error) throw error
  })
  return response.getHeaders() as Record<string, string>
}
