"""What tests of several rooms share: real services, signing material, clusters."""
