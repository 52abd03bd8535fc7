module brinkbyte.io/localkube/pause

go 1.25.0
